#include "kernels.h"
#include "layout.h"
#include <vector>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cmath>
#include <chrono>
#include <random>
#include <algorithm>
using namespace sardonyx;
static const Kernels& KK = 
#ifdef USE_AVX2
kAvx2
#else
kAvx512
#endif
;
struct Mat { int bits; int64_t K,N,blocks; std::vector<uint8_t> packed; std::vector<float> cent; std::vector<uint32_t> starts, rows, pstarts; std::vector<uint16_t> places; std::vector<float> pvals, vsums; std::vector<uint32_t> istarts, iplaces; std::vector<float> ivals; std::vector<float> vals; std::vector<float> W; std::vector<int8_t> table; float ts; std::vector<int32_t> sums; std::vector<int8_t> Q;};
static void pack(Mat& m, const std::vector<uint8_t>& idx){
  int b=m.bits, mem=members(b), w=words(b); int64_t H=m.blocks*32/mem, P=(m.N+15)/16;
  m.packed.assign(P*panel_bytes(b,m.blocks),0);
  for(int64_t n=0;n<m.N;n++) for(int64_t q=0;q<m.blocks*4;q++) for(int s=0;s<w;s++){
    unsigned word=0; for(int j=0;j<mem;j++){int64_t k=j*H+q*w+s; unsigned v=k<m.K?idx[n*m.K+k]:0; word|=v<<(j*b);}
    for(int f=0;f<3;f++){Field fd=field(b,f); if(!fd.width)continue; unsigned part=(word>>fd.shift)&((1u<<fd.width)-1);
      int plane=fd.plane+s*fd.width/8, bit=s*fd.width%8;
      m.packed[(n/16)*panel_bytes(b,m.blocks)+((q/4)*b+plane)*64+(n%16)*4+q%4]|=part<<bit;}
  }
}
static Mat make(int bits,int64_t K,int64_t N,int seed,bool full){
  Mat m; m.bits=bits;m.K=K;m.N=N;m.blocks=(K+31)/32; std::mt19937 g(seed);
  int mem=members(bits); int64_t H=m.blocks*32/mem;
  m.cent.resize(1<<bits); for(int i=0;i<(1<<bits);i++) m.cent[i]=-0.08f+0.16f*i/((1<<bits)-1)+0.001f*(i%3);
  std::vector<uint8_t> idx(K*N); for(auto&x:idx)x=g()&((1<<bits)-1);
  m.starts.push_back(0);
  for(int64_t n=0;n<N;n++){ std::vector<std::pair<int64_t,int64_t>> ks; int cnt=K*0.0022+ (g()%3); for(int i=0;i<cnt;i++){int64_t k=g()%K; ks.push_back({(k%H)*mem+k/H,k});}
    std::sort(ks.begin(),ks.end()); ks.erase(std::unique(ks.begin(),ks.end()),ks.end());
    for(auto&p:ks){m.rows.push_back(p.second);m.vals.push_back(0.3f+0.001f*(g()%100)); idx[n*K+p.second]=0;} m.starts.push_back(m.rows.size());}
  pack(m,idx);
  float top=0; for(float c:m.cent) top=std::max(top,std::fabs(c)); m.ts=top/63; m.table.assign(256,0); for(int i=0;i<(1<<bits);i++) m.table[i]=(int8_t)std::nearbyintf(m.cent[i]/m.ts);
  m.Q.resize(K*N); m.sums.assign(N,0);
  for(int64_t n=0;n<N;n++) for(int64_t k=0;k<K;k++) m.Q[n*K+k]=m.table[idx[n*K+k]];
  for(int64_t n=0;n<N;n++) for(int64_t k=0;k<K;k++) m.sums[n]+=m.Q[n*K+k];
  { int64_t np=pieces_of(bits,m.blocks), P=(N+15)/16; std::vector<std::vector<std::pair<int,float>>> ps(np*P); m.vsums.assign(N,0);
    for(int64_t n=0;n<N;n++) for(auto o=m.starts[n];o<m.starts[n+1];o++){int64_t k=m.rows[o], j=k/H, q=k%H; ps[n/16*np+q/kRun*mem+j].push_back({(int)(q%kRun*16+n%16),m.vals[o]}); m.vsums[n]+=m.vals[o];}
    m.pstarts.push_back(0); for(auto&v:ps){std::sort(v.begin(),v.end()); for(auto&x:v){m.places.push_back(x.first);m.pvals.push_back(x.second);} m.pstarts.push_back(m.places.size());}
 std::vector<std::vector<std::pair<uint32_t,float>>> is(P); m.vsums.assign(N,0); for(int64_t n=0;n<N;n++) for(auto o=m.starts[n];o<m.starts[n+1];o++){int64_t k=m.rows[o], j=k/H, q=k%H, w=words(bits), run=4*w; int64_t place=q/run*32+j*run+q%w*4+q%run/w; float v=m.vals[o]-m.ts*m.table[0]; is[n/16].push_back({(uint32_t)(place*16+n%16),v}); m.vsums[n]+=v;} m.istarts.push_back(0); for(auto&v:is){std::sort(v.begin(),v.end()); for(auto&x:v){m.iplaces.push_back(x.first);m.ivals.push_back(x.second);} m.istarts.push_back(m.iplaces.size());} }
  if(full){ m.W.resize(K*N); for(int64_t n=0;n<N;n++){ for(int64_t k=0;k<K;k++) m.W[n*K+k]=m.cent[idx[n*K+k]]; for(auto o=m.starts[n];o<m.starts[n+1];o++) m.W[n*K+m.rows[o]]=m.vals[o];}}
  return m;
}
static void fill(Tile& t,const Mat& m,int64_t n0,int64_t cols,float*y,int64_t M){
  t.bits=m.bits;t.rows=m.K;t.blocks=m.blocks;t.columns=cols;t.indices=m.packed.data()+n0/16*panel_bytes(m.bits,m.blocks);
  for(int i=0;i<64;i++)t.centroids[i]=m.cent.data(); t.one_table=true;t.bias=nullptr;t.y=y+n0;t.m=M;t.y_stride=m.N;
}
static void run_fp32(const Mat& m,const float*a,int64_t M,float*y,void*scratch){
  for(int64_t m0=0;m0<M;m0+=256) {int tc=M==1?(m.bits<=4?KK.row_tile_columns:KK.tile_columns):KK.tile_columns; for(int64_t n0=0;n0<m.N;n0+=tc){ Fp32Tile t; int64_t mm=std::min<int64_t>(256,M-m0); fill(t,m,n0,std::min<int64_t>(tc,m.N-n0),y+m0*m.N,mm); t.starts=m.pstarts.data()+n0/16*pieces_of(m.bits,m.blocks);t.places=m.places.data();t.values=m.pvals.data();t.a=a+m0*m.K; KK.fp32(t,scratch);} } }
static std::vector<uint8_t> aq, at; static std::vector<float> sc; static std::vector<int32_t> zp; static std::vector<float> tsc;
static void run_int8(const Mat& m,const float*a,int64_t M,float*y,void*scratch){
  int64_t Kp=m.blocks*32;
  for(int64_t m0=0;m0<M;m0+=256){ int64_t mm=std::min<int64_t>(256,M-m0), mp=(mm+15)/16*16;
   aq.resize(Kp*mp);at.resize(Kp*mp);sc.resize(mp);zp.resize(mp);tsc.assign(64,m.ts);
   for(int64_t r=0;r<mm;r+=16) KK.quantize(m.bits,a+(m0+r)*m.K,std::min<int64_t>(16,mm-r),m.K,aq.data()+r*Kp,mm==1&&m.bits<=4?nullptr:at.data()+r,mp,sc.data()+r,zp.data()+r,(uint8_t*)scratch);
   for(int64_t n0=0;n0<m.N;n0+=KK.tile_columns){ Int8Tile t; fill(t,m,n0,std::min<int64_t>(KK.tile_columns,m.N-n0),y+m0*m.N,mm); for(int i=0;i<64;i++)t.tables[i]=m.table.data(); t.table_scales=tsc.data();t.column_sums=m.sums.data()+n0;t.value_sums=m.vsums.data()+n0;t.starts=m.istarts.data()+n0/16;t.places=m.iplaces.data();t.values=m.ivals.data();t.a=aq.data();t.a_columns=at.data();t.scales=sc.data();t.zero_points=zp.data(); KK.int8(t,scratch);} } }
int main(int argc,char**argv){
  void*scratch=aligned_alloc(64,8<<20);
  for(int bits: {2,3,4,5,6,7,8}) for(auto kn: std::vector<std::pair<int,int>>{{768,64},{100,40},{37,17},{1024,48}}) for(int M:{1,3,13,40}){
    Mat m=make(bits,kn.first,kn.second,bits,true); std::vector<float> a(M*m.K),y(M*m.N,-1),y8(M*m.N,-1); std::mt19937 g(5); std::normal_distribution<float> nd; for(auto&x:a)x=nd(g);
    run_fp32(m,a.data(),M,y.data(),scratch); double e=0,e8=0; run_int8(m,a.data(),M,y8.data(),scratch);
    for(int i=0;i<M;i++){ const float*r=&a[i*m.K]; float lo=0,hi=0; for(int k=0;k<m.K;k++){lo=std::min(lo,r[k]);hi=std::max(hi,r[k]);} float s=std::max((hi-lo)/255,std::ldexp(1.f,-120)),inv=1/s; int z=std::nearbyintf(-lo*inv);
     for(int n=0;n<m.N;n++){ double s0=0; long acc=0; double so=0; for(int k=0;k<m.K;k++){ s0+=(double)r[k]*m.W[n*m.K+k]; int u=std::min(255,std::max(0,(int)std::nearbyintf(r[k]*inv)+z)); acc+=(u-z)*m.Q[n*m.K+k]; }
      for(auto o=m.starts[n];o<m.starts[n+1];o++){int u=std::min(255,std::max(0,(int)std::nearbyintf(r[m.rows[o]]*inv)+z)); so+=(double)(u-z)*(m.vals[o]-m.ts*m.table[0]);}
      e=std::max(e,std::fabs(s0-y[i*m.N+n])); double w=s*(acc*(double)m.ts+so); e8=std::max(e8,std::fabs(w-y8[i*m.N+n]));}}
    if(e>1e-5||e8>1e-5) printf("bits %d K %d N %d M %d err %g int8 %g\n",bits,kn.first,kn.second,M,e,e8);
  }
  int bits=argc>1?atoi(argv[1]):3;
  for(auto kn: std::vector<std::pair<int,int>>{{768,768},{768,3072},{3072,768},{1024,4096}}){
    std::vector<Mat> ms; int copies=argc>2?atoi(argv[2]):std::max<int64_t>(4,100e6/(kn.first*(int64_t)kn.second*bits/8)); ms.push_back(make(bits,kn.first,kn.second,1,false)); for(int i=1;i<copies;i++)ms.push_back(ms[0]);
    for(int M:{1,8,128}){ if(argc>3&&M!=atoi(argv[3]))continue; std::vector<float> a(M*ms[0].K),y(M*ms[0].N); std::mt19937 g(5); std::normal_distribution<float> nd; for(auto&x:a)x=nd(g);
      for(int mode=0;mode<2;mode++){ std::vector<double> ts; int at=0; double total=0; while(total<0.4){auto t0=std::chrono::steady_clock::now(); int reps=M==1?8:1; for(int i=0;i<reps;i++){Mat&m=ms[at++%copies]; if(mode)run_int8(m,a.data(),M,y.data(),scratch); else run_fp32(m,a.data(),M,y.data(),scratch);} double d=std::chrono::duration<double>(std::chrono::steady_clock::now()-t0).count(); total+=d; ts.push_back(d/reps);}
        std::sort(ts.begin(),ts.end()); printf("%dx%d M=%d %s: %.1f us (min %.1f) %.0f GMAC/s\n",kn.first,kn.second,M,mode?"int8":"fp32",ts[ts.size()/2]*1e6,ts[0]*1e6,(double)M*kn.first*kn.second/ts[ts.size()/2]/1e9);}}
  }
}
